//! How many replicas, how much CPU and memory, and why: a pure function of facts and time.
