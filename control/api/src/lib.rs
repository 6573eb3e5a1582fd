//! The Workload API, the SPIRE server APIs and our own: protocol definitions and how they are carried.
