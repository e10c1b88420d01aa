//! [`Filter`]: forbids some system calls, as sandboxes do.

use std::io;

/// Lets some system calls fail.
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

impl Filter {
    /// Lets each of `calls` (`SYS_..`) fail with `errno`.
    pub fn new(calls: &[libc::c_long], errno: i32) -> Self {
        let step = |code, jf, k| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        // Load the number of the call.
        let mut program = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
        for &call in calls {
            program.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, call as u32));
            program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
        }
        program.push(step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW));
        Filter(program)
    }

    /// Applies to this thread from now on, and to threads that it starts. This can't be undone.
    pub fn install(&mut self) -> io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_mut_ptr() };
        // SAFETY: the first call takes only numbers; the second reads the program, which outlives the call.
        let result = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
                | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
