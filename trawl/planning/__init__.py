"""What a run will take, before anything is spent: prompts, tokens, hours, bytes, from samples (`trawl plan`)."""
