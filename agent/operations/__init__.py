"""One file a verb; each is plain Python called by the web layer and answers with JSON-ready dictionaries."""
