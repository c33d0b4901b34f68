//! What runs by itself: flushes, compaction, retention, rules, delivery.
