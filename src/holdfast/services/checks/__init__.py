"""What `holdfast verify` looks at: each module examines one side of a running deployment and returns findings."""
