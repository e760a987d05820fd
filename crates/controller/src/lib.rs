//! The autoscaler's loop: watch, scrape, decide by the engine, act.
