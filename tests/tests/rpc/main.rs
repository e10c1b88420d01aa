//! RPC without a transport: frames as bytes, and two peers in virtual time.

mod any;
mod bodies;
mod bytes;
mod calls;
mod cuts;
mod faults;
mod frame_faults;
mod frames;
mod heads;
mod hostile;
mod leaving;
mod limits;
mod messages;
mod preface;
mod property;
mod refused;
mod solo;
mod spec;
mod streams;
mod timers;

#[global_allocator]
static ALLOCATOR: testkit::alloc::Counting = testkit::alloc::Counting;
