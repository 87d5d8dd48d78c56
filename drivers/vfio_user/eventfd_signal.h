#pragma once

namespace runnel::vfio_user {

/// Adds 1 to the counter of an eventfd that somebody else holds too, and never waits: a counter
/// that is full stays full. A write could wait, because every holder may make the descriptor
/// blocking again. A descriptor that is no eventfd is left alone.
///
/// Where the kernel offers no asynchronous I/O (fs.aio-max-nr is used up, or it is compiled out)
/// this is a write.
/// @context any thread; one system call, two for each 32nd signal
void signal_eventfd(int eventfd) noexcept;

}  // namespace runnel::vfio_user
