//! The trust domain's authority: CA, registration entries, agents, bundles.
