//! The table of who may call what: SPIRE's, and our own service beside it. A method that is not in the table
//! does not exist for anybody.

/// Kinds of callers that may call a method; one of them is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set with named members")]
pub struct Access {
    /// Anybody, also without an identity.
    pub anyone: bool,
    /// Whoever may open the administrators' socket.
    pub local: bool,
    /// An identity of `admin_ids`, or of an entry with `admin`.
    pub admin: bool,
    /// An agent whose SVID is the active one.
    pub agent: bool,
    /// An identity of an entry with `downstream`.
    pub downstream: bool,
}

const NOBODY: Access = Access { anyone: false, local: false, admin: false, agent: false, downstream: false };
const ANYONE: Access = Access { anyone: true, ..NOBODY };
const LOCAL: Access = Access { local: true, ..NOBODY };
const ADMINISTRATORS: Access = Access { local: true, admin: true, ..NOBODY };
const ADMINISTRATORS_AND_AGENTS: Access = Access { agent: true, ..ADMINISTRATORS };
const AGENTS: Access = Access { agent: true, ..NOBODY };
const DOWNSTREAM: Access = Access { downstream: true, ..NOBODY };

/// Who may call the method with this path (`/SERVICE/METHOD`); `None` for a method that does not exist.
#[must_use]
pub fn of(path: &str) -> Option<Access> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let access = match service {
        "spire.api.server.agent.v1.Agent" => match method {
            "AttestAgent" => ANYONE,
            "RenewAgent" | "PostStatus" => AGENTS,
            "CountAgents" | "ListAgents" | "GetAgent" | "DeleteAgent" | "BanAgent" | "CreateJoinToken" => {
                ADMINISTRATORS
            }
            _ => return None,
        },
        "spire.api.server.bundle.v1.Bundle" => match method {
            "GetBundle" => ANYONE,
            "GetFederatedBundle" => ADMINISTRATORS_AND_AGENTS,
            "PublishJWTAuthority" => DOWNSTREAM,
            "AppendBundle"
            | "CountBundles"
            | "ListFederatedBundles"
            | "BatchCreateFederatedBundle"
            | "BatchUpdateFederatedBundle"
            | "BatchSetFederatedBundle"
            | "BatchDeleteFederatedBundle" => ADMINISTRATORS,
            _ => return None,
        },
        "spire.api.server.entry.v1.Entry" => match method {
            "GetAuthorizedEntries" | "SyncAuthorizedEntries" => AGENTS,
            "CountEntries" | "ListEntries" | "GetEntry" | "BatchCreateEntry" | "BatchUpdateEntry"
            | "BatchDeleteEntry" => ADMINISTRATORS,
            _ => return None,
        },
        "spire.api.server.localauthority.v1.LocalAuthority" => match method {
            "GetX509AuthorityState"
            | "PrepareX509Authority"
            | "ActivateX509Authority"
            | "TaintX509Authority"
            | "RevokeX509Authority"
            | "GetJWTAuthorityState"
            | "PrepareJWTAuthority"
            | "ActivateJWTAuthority"
            | "TaintJWTAuthority"
            | "RevokeJWTAuthority"
            | "GetWITAuthorityState"
            | "PrepareWITAuthority"
            | "ActivateWITAuthority"
            | "TaintWITAuthority"
            | "RevokeWITAuthority"
            | "TaintX509UpstreamAuthority"
            | "RevokeX509UpstreamAuthority" => ADMINISTRATORS,
            _ => return None,
        },
        "spire.api.server.svid.v1.SVID" => match method {
            "BatchNewX509SVID" | "NewJWTSVID" => AGENTS,
            "NewDownstreamX509CA" => DOWNSTREAM,
            "MintX509SVID" | "MintJWTSVID" => ADMINISTRATORS,
            _ => return None,
        },
        // The keys of the authorities leave this way: for nobody who is not on the machine itself.
        "svidecar.server.v1.Backup" => match method {
            "CreateBackup" => LOCAL,
            _ => return None,
        },
        "svidecar.server.v1.BootstrapKeys" => match method {
            "ListBootstrapKeys" | "RotateBootstrapKey" | "RevokeBootstrapKey" => ADMINISTRATORS,
            _ => return None,
        },
        "svidecar.server.v1.Clock" => match method {
            "GetClock" | "AcceptClock" => ADMINISTRATORS,
            _ => return None,
        },
        "svidecar.server.v1.JoinTokens" => match method {
            "CreateJoinToken" | "ListJoinTokens" | "DeleteJoinToken" => ADMINISTRATORS,
            _ => return None,
        },
        "svidecar.server.v1.Watch" => match method {
            "Watch" => AGENTS,
            _ => return None,
        },
        "grpc.health.v1.Health"
        | "grpc.reflection.v1.ServerReflection"
        | "grpc.reflection.v1alpha.ServerReflection" => LOCAL,
        _ => return None,
    };
    Some(access)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prost::Message as _;

    use super::*;

    #[test]
    fn every_method_that_is_served_is_in_the_table() {
        let set = prost_types::FileDescriptorSet::decode(svidecar_api::SERVER_FILE_DESCRIPTOR_SET).unwrap();
        let mut seen = 0;
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert!(of(&path).is_some(), "{path}");
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 59);
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        for path in [
            "",
            "/",
            "spire.api.server.agent.v1.Agent/AttestAgent",
            "/spire.api.server.agent.v1.Agent/AttestAgent/",
            "/spire.api.server.agent.v1.Agent/attestAgent",
            "/spire.api.server.debug.v1.Debug/GetInfo",
        ] {
            assert_eq!(of(path), None, "{path}");
        }
    }
}
