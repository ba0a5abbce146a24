"""What is wrong with a set-up, and what to do: checks that run apart from each other (`trawl doctor`)."""
