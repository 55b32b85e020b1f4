//! Balancing policies, one file each.
