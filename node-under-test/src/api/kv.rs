//! `etcdserverpb.KV`. What is proposed is checked on the way ([`Node::propose`]); what is only
//! read, here.

use super::{Node, mismatch};
use crate::state::mvcc::check;
use node_proto::command::command::Request as Command;
use node_proto::command::outcome::Result as Answer;
use node_proto::etcdserverpb::kv_server::Kv;
use node_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct KvService(pub Arc<Node>);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        check::range(&request)?;
        if !request.serializable {
            self.0.catch_up().await?;
        }
        let short = self.0.store.range_if_short(&request)?;
        let mut response = match short {
            Some(response) => response,
            None => self.0.read(move |store| store.range(&request)).await??,
        };
        self.0.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        let Answer::Put(mut response) = self.0.propose(Command::Put(request)).await? else { return Err(mismatch()) };
        self.0.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let answer = self.0.propose(Command::DeleteRange(request)).await?;
        let Answer::DeleteRange(mut response) = answer else { return Err(mismatch()) };
        self.0.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        check::txn(&request)?;
        let mut response = if check::is_read_only(&request) {
            if !check::is_serializable(&request) {
                self.0.catch_up().await?;
            }
            match self.0.store.read_txn_if_short(&request)? {
                Some(response) => response,
                None => self.0.read(move |store| store.read_txn(&request)).await??,
            }
        } else {
            let Answer::Txn(response) = self.0.propose(Command::Txn(request)).await? else { return Err(mismatch()) };
            response
        };
        self.0.complete(&mut response.header);
        Ok(Response::new(response))
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        let request = request.into_inner();
        let (revision, physical) = (request.revision, request.physical);
        let answer = self.0.propose(Command::Compact(request)).await?;
        let Answer::Compact(mut response) = answer else { return Err(mismatch()) };
        if physical {
            self.0.swept(revision).await?;
        }
        self.0.complete(&mut response.header);
        Ok(Response::new(response))
    }
}
