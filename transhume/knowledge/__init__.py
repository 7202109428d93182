"""Knowledge: what is known, in Redis: the model of records, the store, the lease, the journal, the server."""
