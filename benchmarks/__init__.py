"""What Gatewise costs: `python -m benchmarks`, from the root of the repository.

A file offers `jobs(size)`, and maybe `growth(size)`; measure.py times them, page.py prints them.
"""
