//! Conversions of requests for keys and their answers.

use bytes::Bytes;
use es_core::model::SubjectId;
use es_personal::{DataKey, KeyId, KeyState};

use crate::keys::KeyRequest;
use crate::wire::error::DecodeError;
use crate::wire::event::name;
use crate::wire::proto;

impl From<KeyRequest> for proto::WireKeyRequest {
    fn from(KeyRequest { node, subject, key }: KeyRequest) -> Self {
        Self { node, subject: subject.to_string(), key: Bytes::copy_from_slice(key.as_bytes()) }
    }
}

impl TryFrom<proto::WireKeyRequest> for KeyRequest {
    type Error = DecodeError;

    fn try_from(proto::WireKeyRequest { node, subject, key }: proto::WireKeyRequest) -> Result<Self, DecodeError> {
        let id = key.as_ref().try_into();
        let id = id.map_err(|_| DecodeError::field("the id of a key", "16 bytes", key.len()))?;
        let subject = name("a subject", SubjectId::new(subject))?;
        Ok(Self { node, subject, key: KeyId::from_bytes(id) })
    }
}

impl From<KeyState> for proto::WireKeyAnswer {
    fn from(state: KeyState) -> Self {
        Self {
            state: Some(match state {
                KeyState::Present(key) => proto::WireKeyState::Key(Bytes::copy_from_slice(key.as_bytes())),
                KeyState::Destroyed => proto::WireKeyState::Destroyed(proto::WireHeartbeat {}),
                KeyState::Missing => proto::WireKeyState::Missing(proto::WireHeartbeat {}),
            }),
        }
    }
}

impl TryFrom<proto::WireKeyAnswer> for KeyState {
    type Error = DecodeError;

    fn try_from(answer: proto::WireKeyAnswer) -> Result<Self, DecodeError> {
        match answer.state {
            Some(proto::WireKeyState::Key(key)) => {
                let bytes = key.as_ref().try_into();
                let bytes = bytes.map_err(|_| DecodeError::field("a key", "32 bytes", key.len()))?;
                Ok(Self::Present(DataKey::from_bytes(bytes)))
            }
            Some(proto::WireKeyState::Destroyed(_)) => Ok(Self::Destroyed),
            Some(proto::WireKeyState::Missing(_)) => Ok(Self::Missing),
            None => Err(DecodeError::field("the answer to a request for a key", "a state", "none")),
        }
    }
}
