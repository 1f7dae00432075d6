"""The parts of ``data.fetch``: requests and what is believed of their answers, the file on disk, parallel segments."""
