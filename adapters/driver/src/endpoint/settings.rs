//! [`Settings`]: the common settings of servers, clients and pools.

use std::sync::Arc;

use getty_core::Config;
use getty_core::datagram::PacketOptions;

use crate::drive::actor::OnPanic;
use crate::endpoint::security::Plaintext;
use crate::socket::tcp::TcpOptions;
use crate::socket::udp::UdpOptions;

/// The common settings of the builders. Each builder has them in its field `settings`, beside its own in
/// `own`.
pub(crate) struct Settings<S, T> {
    pub(crate) config: Arc<Config>,
    pub(crate) tcp: TcpOptions,
    pub(crate) udp: UdpOptions,
    pub(crate) packets: PacketOptions,
    pub(crate) on_panic: Option<OnPanic>,
    pub(crate) spawner: S,
    pub(crate) security: T,
}

impl<S: Default> Settings<S, Plaintext> {
    pub(crate) fn new(packets: PacketOptions) -> Self {
        Settings {
            config: Arc::new(Config::default()),
            tcp: TcpOptions::default(),
            udp: UdpOptions::default(),
            packets,
            on_panic: None,
            spawner: S::default(),
            security: Plaintext,
        }
    }
}

impl<S, T> Settings<S, T> {
    pub(crate) fn with_spawner<N>(self, spawner: N) -> Settings<N, T> {
        let Settings { config, tcp, udp, packets, on_panic, spawner: _, security } = self;
        Settings { config, tcp, udp, packets, on_panic, spawner, security }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn with_security<N>(self, security: N) -> Settings<S, N> {
        let Settings { config, tcp, udp, packets, on_panic, spawner, security: _ } = self;
        Settings { config, tcp, udp, packets, on_panic, spawner, security }
    }
}

/// Implements the setters of [`Settings`] as methods of a builder.
macro_rules! shared_setters {
    ($Builder:ident) => {
        impl<R: Runtime, S, T> $Builder<R, S, T> {
            /// Sets the limits and periods of every session. Default:
            /// [`Config::default`](getty_core::Config::default).
            pub fn config(mut self, config: std::sync::Arc<getty_core::Config>) -> Self {
                self.settings.config = config;
                self
            }

            /// Sets options of TCP sockets.
            pub fn tcp_options(mut self, options: crate::socket::tcp::TcpOptions) -> Self {
                self.settings.tcp = options;
                self
            }

            /// Sets options of UDP sockets.
            pub fn udp_options(mut self, options: crate::socket::udp::UdpOptions) -> Self {
                self.settings.udp = options;
                self
            }

            /// Sets options of datagram sessions. Whether the socket is connected depends on the method that
            /// opens it, not on these options.
            pub fn packet_options(mut self, options: getty_core::datagram::PacketOptions) -> Self {
                self.settings.packets = options;
                self
            }

            /// Sets the spawner of the tasks. Default: the runtime's own. Another one may be local to a
            /// thread.
            pub fn spawner<N>(self, spawner: N) -> $Builder<R, N, T> {
                let $Builder { settings, own, runtime } = self;
                $Builder { settings: settings.with_spawner(spawner), own, runtime }
            }

            /// Sets a hook for panics in a listener's callback, or in a function that makes protocols or
            /// listeners. The session ends in any case.
            pub fn on_panic(
                mut self,
                hook: impl Fn(crate::session::id::SessionId, &(dyn std::any::Any + Send)) + Send + Sync + 'static,
            ) -> Self {
                self.settings.on_panic = Some(std::sync::Arc::new(Box::new(hook)));
                self
            }

            #[cfg(feature = "tls")]
            fn with_security<N>(self, security: N) -> $Builder<R, S, N> {
                let $Builder { settings, own, runtime } = self;
                $Builder { settings: settings.with_security(security), own, runtime }
            }
        }
    };
}
pub(crate) use shared_setters;
