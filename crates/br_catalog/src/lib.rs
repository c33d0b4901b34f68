//! The catalog: manifest of both stores, ledger, outbox and leases in SQL.
