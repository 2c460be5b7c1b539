"""The desk: one thread owns the oracle, and others hand in batches under keys, from threads, asyncio and other processes."""
