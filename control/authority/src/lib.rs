//! Keys, certificate authority, minting and validating SVIDs, bundle documents.
