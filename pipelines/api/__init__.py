"""What the commands do, as functions: keyword arguments in, frozen results out. docs/python.md shows them.

Tasks, robots and spaces are taken as objects or by name or path; policies by name, as files, or (where worker
processes can do without a name) as objects.
"""
