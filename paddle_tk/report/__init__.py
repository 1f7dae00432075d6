"""What was measured and decided, told: one HTML file, Markdown, JSON and plots."""

from paddle_tk.report.section import Section
from paddle_tk.report.write import ReportFiles, write_report

__all__ = ["ReportFiles", "Section", "write_report"]
