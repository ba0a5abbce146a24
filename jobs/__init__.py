"""One thin script per room, for `ray job submit`; the arguments are those of `trawl run`."""
