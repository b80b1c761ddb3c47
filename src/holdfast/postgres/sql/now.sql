-- Does the server answer at all, whatever is in it?
SELECT clock_timestamp()
