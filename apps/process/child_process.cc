#include "apps/process/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace runnel::process {
namespace {

using steady = std::chrono::steady_clock;

int milliseconds_until(steady::time_point until) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady::now());
  return static_cast<int>(std::max<std::chrono::milliseconds::rep>(0, left.count()));
}

/// Tools such as mkfs live where an ordinary user's PATH may not look.
std::string locate(const std::string& program) {
  if (program.find('/') == std::string::npos) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
      const std::string path = folder + program;
      if (::access(path.c_str(), X_OK) == 0) {
        return path;
      }
    }
  }
  return program;
}

}  // namespace

outcome<child_process> child_process::start(const std::vector<std::string>& arguments,
                                            complaints where) {
  const auto refuse = [&arguments](error why) { return fail(why, "start", arguments.front()); };
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) {
    return refuse(os_error());
  }
  unique_fd reader{ends[0]};
  const unique_fd writer{ends[1]};

  std::vector<char*> words;
  words.reserve(arguments.size() + 1);
  for (const std::string& word : arguments) {
    words.push_back(const_cast<char*>(word.c_str()));  // posix_spawn does not write to them
  }
  words.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  if (where == complaints::to_output) {
    posix_spawn_file_actions_adddup2(&actions, writer.get(), STDERR_FILENO);
  }
  pid_t pid = -1;
  const std::string path = locate(arguments.front());
  const int status = posix_spawnp(&pid, path.c_str(), &actions, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (status != 0) {
    return refuse({errc::os, static_cast<std::uint32_t>(status)});
  }
  return child_process{pid, std::move(reader), arguments.front()};
}

child_process::child_process(child_process&& other) noexcept
    : pid_{std::exchange(other.pid_, -1)},
      output_{std::move(other.output_)},
      name_{std::move(other.name_)},
      unread_{std::move(other.unread_)},
      at_end_{other.at_end_} {}

child_process::~child_process() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

outcome<> child_process::read_more(steady::time_point until) {
  pollfd wait{.fd = output_.get(), .events = POLLIN, .revents = 0};
  if (poll(&wait, 1, milliseconds_until(until)) == 0) {
    return fail({errc::timed_out}, "wait for", name_);
  }
  std::array<char, 4096> chunk{};
  const ssize_t count = read(output_.get(), chunk.data(), chunk.size());
  if (count > 0) {
    unread_.append(chunk.data(), static_cast<std::size_t>(count));
  } else if (count == 0) {
    at_end_ = true;
  }
  return {};
}

outcome<std::string> child_process::wait_for_line(const std::string& prefix,
                                                  std::chrono::milliseconds deadline) {
  return wait_for_line_that([&prefix](const std::string& line) { return line.starts_with(prefix); },
                            deadline);
}

outcome<std::string> child_process::wait_for_line_with(const std::string& words,
                                                       std::chrono::milliseconds deadline) {
  return wait_for_line_that([&words](const std::string& line) { return line.contains(words); },
                            deadline);
}

template <class Wanted>
outcome<std::string> child_process::wait_for_line_that(Wanted is_wanted,
                                                       std::chrono::milliseconds deadline) {
  const auto until = steady::now() + deadline;
  for (;;) {
    for (std::size_t end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n')) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      if (is_wanted(line)) {
        return line;
      }
    }
    if (at_end_) {
      return fail({errc::device_gone}, "wait for", name_, "it ended before that");
    }
    if (auto more = read_more(until); !more) {
      return std::unexpected{more.error()};
    }
  }
}

void child_process::halt() const noexcept {
  kill(pid_, SIGSTOP);
}

void child_process::go_on() const noexcept {
  kill(pid_, SIGCONT);
}

outcome<int> child_process::stop(std::chrono::milliseconds deadline) {
  kill(pid_, SIGTERM);
  std::string ignored;
  return finish(ignored, deadline);
}

outcome<int> child_process::finish(std::string& output, std::chrono::milliseconds deadline) {
  const auto until = steady::now() + deadline;
  while (!at_end_) {
    if (auto more = read_more(until); !more) {
      return std::unexpected{more.error()};
    }
  }
  output = std::exchange(unread_, {});
  return reap(until);
}

outcome<int> child_process::reap(steady::time_point until) {
  const unique_fd handle{static_cast<int>(syscall(SYS_pidfd_open, pid_, 0))};
  pollfd wait{.fd = handle.get(), .events = POLLIN, .revents = 0};
  if (handle && poll(&wait, 1, milliseconds_until(until)) == 0) {
    return fail({errc::timed_out}, "wait for the end of", name_);
  }
  int status = 0;
  waitpid(std::exchange(pid_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

outcome<std::string> run_tool(const std::vector<std::string>& arguments) {
  auto tool = child_process::start(arguments, complaints::to_output);
  if (!tool) {
    tool.error().hint = "apt-get install e2fsprogs";
    return std::unexpected{tool.error()};
  }
  std::string output;
  const auto status = tool->finish(output, std::chrono::minutes{1});
  if (!status) {
    return std::unexpected{status.error()};
  }
  if (*status != 0) {
    return fail({errc::bad_status, static_cast<std::uint32_t>(*status)}, "run", arguments.front(),
                output);
  }
  return output;
}

}  // namespace runnel::process
