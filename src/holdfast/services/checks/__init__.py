"""What `holdfast doctor` looks at: each module examines one side of a running deployment and returns findings."""
