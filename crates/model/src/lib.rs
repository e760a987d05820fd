//! The house-price model and its server.
