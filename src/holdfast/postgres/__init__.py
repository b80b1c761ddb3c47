"""The ledger: the only package that imports the database driver."""
