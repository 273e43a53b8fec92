"""`python -m sundown.shell`: a process that is driven by lines on standard input, as `sundown shell` is.

docs/command.md, "sundown shell", is the contract of both, and one test suite runs with either.
"""
