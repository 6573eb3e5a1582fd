//! Every setting of every svidecar binary, and the policy language: typed, documented, validated.
