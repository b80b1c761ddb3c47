"""What runs: each service has one duty and is a noun; loop, step and decision are three things."""
