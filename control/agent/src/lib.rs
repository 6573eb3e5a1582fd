//! One per node: attests itself and the workloads beside it, serves the SPIFFE Workload API.
