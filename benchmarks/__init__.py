"""One script per claim; each prints its figures, writes JSON and exits 1 when a bound is missed."""
