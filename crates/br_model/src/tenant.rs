//! Whose data it is, and who asks. Both follow from the credential alone.

/// A tenant's number, used in paths and keys. Text never becomes part of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u32);

/// What a principal is to the server: a set of rights. Roles are in no order: one that sends does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends data.
    Ingest,
    /// Reads.
    Viewer,
    /// Reads, and acts on incidents and issues.
    Responder,
    /// Everything.
    Admin,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Right {
    /// Add telemetry.
    Send,
    Read,
    /// Acknowledge and resolve incidents, write notes, change the state of an issue.
    Respond,
    /// See the configuration, make the server do work.
    Administer,
}

impl Role {
    pub fn may(self, right: Right) -> bool {
        match self {
            Self::Ingest => right == Right::Send,
            Self::Viewer => right == Right::Read,
            Self::Responder => matches!(right, Right::Read | Right::Respond),
            Self::Admin => true,
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub tenant: TenantId,
    pub role: Role,
    /// For the audit log: a token's name, or `anonymous`.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_a_set_of_rights() {
        let all = [Right::Send, Right::Read, Right::Respond, Right::Administer];
        let rights = |role: Role| all.map(|right| role.may(right));
        assert_eq!(rights(Role::Ingest), [true, false, false, false]);
        assert_eq!(rights(Role::Viewer), [false, true, false, false]);
        assert_eq!(rights(Role::Responder), [false, true, true, false]);
        assert_eq!(rights(Role::Admin), [true; 4]);
    }
}
