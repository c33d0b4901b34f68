//! Incidents as a fold over the ledger.
