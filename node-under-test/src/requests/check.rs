//! Checks of a request by itself, beside those of commands and reads
//! ([`crate::state::mvcc::check`]).

use crate::state::Rejection;
use node_proto::command::command::Request as Command;
use node_proto::etcdserverpb::alarm_request::AlarmAction;
use node_proto::etcdserverpb::request_op::Request as Op;
use node_proto::etcdserverpb::{AlarmRequest, AlarmType, RequestOp, TxnRequest};
use std::net::SocketAddr;
use tonic::Status;

/// True if a command needs room for itself in the state, as etcd's quota sees it: puts, wherever
/// they stand, and leases. All else frees room, or is small and keeps the cluster going.
pub fn adds_data(command: &Command) -> bool {
    match command {
        Command::Put(_) | Command::LeaseGrant(_) => true,
        Command::Txn(txn) => has_put(txn),
        _ => false,
    }
}

/// Without recursion: the depth is the client's to choose.
fn has_put(txn: &TxnRequest) -> bool {
    let mut left: Vec<&RequestOp> = txn.success.iter().chain(&txn.failure).collect();
    while let Some(op) = left.pop() {
        match &op.request {
            Some(Op::RequestPut(_)) => return true,
            Some(Op::RequestTxn(txn)) => left.extend(txn.success.iter().chain(&txn.failure)),
            _ => {}
        }
    }
    false
}

/// The peer address that a member is to have: one, and no name service is asked for it.
///
/// # Errors
/// etcd's, for URLs that are none, or several.
pub fn peer_addr(urls: &[String]) -> Result<String, Status> {
    let [url] = urls else { return Err(Rejection::MEMBER_BAD_URLS.into()) };
    let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    let address: SocketAddr = address.parse().map_err(|_| Status::from(Rejection::MEMBER_BAD_URLS))?;
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(Rejection::MEMBER_BAD_URLS.into());
    }
    Ok(address.to_string())
}

/// Checks what may be done with alarms on a server that raises none.
///
/// # Errors
/// No such alarm, no such action, or one that would raise it.
pub fn alarm(request: &AlarmRequest) -> Result<(), Status> {
    let (action, kind) = (request.action, request.alarm);
    AlarmType::try_from(kind)
        .map_err(|_| Status::invalid_argument(format!("etcdserver: expected an alarm type, found {kind}")))?;
    match AlarmAction::try_from(action) {
        Ok(AlarmAction::Get | AlarmAction::Deactivate) => Ok(()),
        Ok(AlarmAction::Activate) => Err(Status::unimplemented("etcdserver: alarms cannot be raised on this server")),
        Err(_) => Err(Status::invalid_argument(format!("etcdserver: expected an alarm action, found {action}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, LeaseRevokeRequest, PutRequest};
    use tonic::Code;

    fn op(request: Op) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    #[test]
    fn what_frees_room_is_taken_on_a_full_disk() {
        let delete = || op(Op::RequestDeleteRange(DeleteRangeRequest::default()));
        let put = || op(Op::RequestPut(PutRequest::default()));
        let txn = |success, failure| TxnRequest { success, failure, ..Default::default() };
        let nested = |inner| op(Op::RequestTxn(inner));
        for (command, adds) in [
            (Command::Put(PutRequest::default()), true),
            (Command::LeaseGrant(Default::default()), true),
            (Command::DeleteRange(DeleteRangeRequest::default()), false),
            (Command::Compact(CompactionRequest::default()), false),
            (Command::LeaseRevoke(LeaseRevokeRequest::default()), false),
            (Command::Txn(txn(vec![delete()], vec![])), false),
            (Command::Txn(txn(vec![delete()], vec![put()])), true),
            (Command::Txn(txn(vec![nested(txn(vec![], vec![nested(txn(vec![put()], vec![]))]))], vec![])), true),
        ] {
            assert_eq!(adds_data(&command), adds, "{command:?}");
        }
    }

    #[test]
    fn a_peer_url_is_one_address() {
        let parse = |urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|url| (*url).to_owned()).collect();
            peer_addr(&urls).map_err(|status| status.message().to_owned())
        };
        for url in ["http://127.0.0.1:7004", "http://127.0.0.1:7004/", "127.0.0.1:7004"] {
            assert_eq!(parse(&[url]).unwrap(), "127.0.0.1:7004");
        }
        let refused = Err("etcdserver: given member URLs are invalid".to_owned());
        for urls in [
            &[][..],
            &["http://127.0.0.1:1", "http://127.0.0.1:2"],
            &["http://somewhere:1"],
            &["https://127.0.0.1:1"],
            &["http://0.0.0.0:1"],
            &["http://127.0.0.1:0"],
        ] {
            assert_eq!(parse(urls), refused, "{urls:?}");
        }
    }

    #[test]
    fn an_alarm_that_is_not_raised_is_disarmed_and_what_is_no_alarm_is_refused() {
        let check = |action, alarm| super::alarm(&AlarmRequest { action, alarm, ..AlarmRequest::default() });
        let code = |action, alarm| check(action, alarm).unwrap_err().code();
        let (get, activate, deactivate) = (0, 1, 2);
        for kind in [AlarmType::None, AlarmType::Nospace, AlarmType::Corrupt] {
            assert!(check(get, kind.into()).is_ok() && check(deactivate, kind.into()).is_ok());
            assert_eq!(code(activate, kind.into()), Code::Unimplemented);
        }
        assert_eq!(code(3, 0), Code::InvalidArgument);
        assert_eq!(code(deactivate, 3), Code::InvalidArgument);
        assert_eq!(code(get, -1), Code::InvalidArgument);
    }
}
