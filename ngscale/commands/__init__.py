"""One thin file per verb: parse, call one library function, show or write."""
