"""What people see and keep: tables, plots, the report, the files of a run."""
