//! Other members, of which there are none.

use std::io;

use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::{SnapshotOf, VoteOf};
use openraft::{EmptyNode, OptionalSend};

use crate::Config;

/// A network that reaches nobody.
pub struct NoNetwork;

fn unreachable() -> Unreachable<Config> {
    Unreachable::new(&io::Error::new(io::ErrorKind::NotFound, "a group of one has no other members"))
}

impl RaftNetworkFactory<Config> for NoNetwork {
    type Network = Self;

    async fn new_client(&mut self, _target: u64, _node: &EmptyNode) -> Self {
        Self
    }
}

impl RaftNetworkV2<Config> for NoNetwork {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<Config>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<Config>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        Err(RPCError::Unreachable(unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Config>,
        _snapshot: SnapshotOf<Config, ()>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        Err(StreamingError::Unreachable(unreachable()))
    }
}
