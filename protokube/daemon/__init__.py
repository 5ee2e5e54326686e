"""The run loop: reconcile, then sleep until an event or a deadline; signals, watchdog, readiness.

The main thread runs asyncio and never works: it only wakes the loop. Reconciles are synchronous code in a thread of
their own.
"""
