"""The report: figures and one page that opens offline, built from what the other stages wrote."""
