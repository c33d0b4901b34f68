//! Rules: files, groups, alert states and templates as pure steps.
