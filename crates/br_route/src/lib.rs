//! Routing and the outbox: who hears of an alert, and when to try again, as pure steps.
