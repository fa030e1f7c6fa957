//! The engine that needs no GPU.
