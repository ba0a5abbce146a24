"""A made-up world of films, encyclopaedia pages and viewers, of any size, from a seed."""
