"""Holdfast and its peers in the same faults: the same load, the same checker; `./bench/run faults`.

Each cell is one system in one fault, on a Postgres of its own: 60 jobs that note their begin and their end in a table
of that Postgres and sleep a second in between, two worker processes of 10 slots each. Whatever ends by itself is
started again after a second, for everybody, as a service manager does it; how often that was needed is told.
"""
