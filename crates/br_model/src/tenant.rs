//! Whose data it is, and who asks. Both follow from the credential alone.

/// A tenant's number, used in paths and keys. Text never becomes part of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// What a principal may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Send data, read nothing.
    Ingest,
    Viewer,
    /// Acknowledge, silence, act on incidents.
    Responder,
    Admin,
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub role: Role,
    /// For the audit log: a token's name, or `anonymous`.
    pub name: String,
}
