//! [`Kind`]: the servers that are compared.

use clap::ValueEnum;
use serde::Serialize;

/// Echo server over one library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The base of the ratios: echoes bytes and knows no messages.
    RawTokio,
    TokioUtil,
    Getty,
    Tungstenite,
    Fastwebsockets,
    SockudoWs,
    GettyWebsocket,
}

/// Framing that a server and its clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Four bytes with the length before each message.
    Length,
    WebSocket,
}

impl Kind {
    /// Name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().expect("every kind has a name").get_name().to_owned()
    }

    /// Name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Kind::RawTokio => "raw tokio, no framing",
            Kind::TokioUtil => "tokio-util",
            Kind::Getty => "**getty**",
            Kind::Tungstenite => "tungstenite",
            Kind::Fastwebsockets => "fastwebsockets",
            Kind::SockudoWs => "sockudo-ws",
            Kind::GettyWebsocket => "**getty, WebSocket**",
        }
    }

    pub fn framing(self) -> Framing {
        match self {
            Kind::RawTokio | Kind::TokioUtil | Kind::Getty => Framing::Length,
            Kind::Tungstenite | Kind::Fastwebsockets | Kind::SockudoWs | Kind::GettyWebsocket => {
                Framing::WebSocket
            }
        }
    }

    pub fn is_getty(self) -> bool {
        matches!(self, Kind::Getty | Kind::GettyWebsocket)
    }

    /// Whether this library does the same job as `other`, and is not the same library.
    pub fn rivals(self, other: Kind) -> bool {
        self != other && self != Kind::RawTokio && self.framing() == other.framing()
    }
}
