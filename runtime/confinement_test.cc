// Goal: a thread that leaves its list ends the process and is named, and what the runtime does for
// itself is on the lists. Method: confined engines and threads in processes that end.

#include "runtime/confinement.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "mempool/base/check.h"
#include "runtime/engine.h"

namespace runnel {
namespace {

using testing::ExitedWithCode;
using testing::KilledBySignal;

confinement make_confinement(seccomp_mode mode) {
  auto made = confinement::create({.seccomp = mode, .required = true});
  CHECK(made.has_value());
  return std::move(*made);
}

std::unique_ptr<engine> make_engine(poll_mode poll) {
  engine_options wanted;
  wanted.name = "some";
  wanted.poll = poll;
  auto made = engine::create(std::move(wanted));
  CHECK(made.has_value());
  return std::move(*made);
}

/// What `runnel` does at its start.
void install_handler() {
  struct sigaction action{};
  action.sa_sigaction = die_of_refused_call;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSYS, &action, nullptr);
}

/// Never returns: the process ends by the call, or with 0.
void call_as(thread_role role, seccomp_mode mode, const std::function<void()>& call) {
  const confinement how = make_confinement(mode);
  std::thread{[&] {
    CHECK(how.enter(role).has_value());
    call();
    ::_exit(0);
  }}.join();
}

class ConfinementDeathTest : public testing::Test {
 protected:
  void SetUp() override {
    if (seccomp_default == seccomp_mode::off) {
      GTEST_SKIP() << "a sanitizer makes calls of its own";
    }
    if (const auto made = confinement::create({.required = true}); !made) {
      GTEST_SKIP() << made.error().message();
    }
    testing::FLAGS_gtest_death_test_style = "threadsafe";
  }
};

task<> make_a_socket() {
  ::socket(AF_UNIX, SOCK_STREAM, 0);
  co_return;
}

TEST_F(ConfinementDeathTest, AReactorThatLeavesItsListDiesOfSigsysAndIsNamed) {
  EXPECT_EXIT(
      {
        install_handler();
        const auto host = make_engine(poll_mode::busy);
        const auto how = make_confinement(seccomp_mode::on);
        CHECK(host->confine(how).has_value());
        host->run(0, [](reactor&) { return make_a_socket(); });
      },
      KilledBySignal(SIGSYS),
      "^runnel: thread some/[0-9]+: system call 41 .socket. is not on its list;[^\n]*\n$");
}

struct attempt {
  thread_role who;
  const char* what;
  std::function<void()> call;
};

std::vector<attempt> attempts() {
  using enum thread_role;
  const auto map = [](int protection) {
    ::mmap(nullptr, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  };
  const auto open_file = [] { std::ifstream{"/etc/passwd"}; };
  const auto start = [] { std::thread{[] {}}.join(); };
  const auto wait = [] { ::poll(nullptr, 0, 0); };
  const auto become = [] { ::execl("/bin/true", "true", nullptr); };
  return {
      {reactor, "open a file", open_file},
      {reactor, "become a program", become},
      {reactor, "start a thread", start},
      {reactor, "map what can be executed", [=] { map(PROT_READ | PROT_EXEC); }},
      {reactor, "make memory executable", [] { ::mprotect(nullptr, 1, PROT_READ | PROT_EXEC); }},
      {reactor, "signal another process", [] { ::syscall(SYS_tgkill, 1, 1, 0); }},
      {reactor, "take a signal", [] { ::signal(SIGTERM, SIG_IGN); }},
      {reactor, "change the process", [] { ::prctl(PR_SET_DUMPABLE, 1UL, 0UL, 0UL, 0UL); }},
      {reactor, "ask a terminal", [] { ::isatty(0); }},
      {reactor, "register more with a ring",
       [] { ::syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES, nullptr, 0); }},
      {reactor, "look at a path", [] { ::access("/", R_OK); }},
      {reactor, "remove a file", [] { ::unlink("/nowhere"); }},
      {reactor, "wait for others", wait},
      {helper, "open a file", open_file},
      {helper, "start a thread", start},
      {helper, "accept a client", [] { ::accept4(-1, nullptr, nullptr, 0); }},
      {helper, "send", [] { ::send(-1, nullptr, 0, 0); }},
      {helper, "use a ring", [] { ::syscall(SYS_io_uring_enter, -1, 0, 0, 0, nullptr, 0); }},
      {control, "open a file", open_file},
      {control, "become a program", become},
      {control, "start a thread", start},
      {control, "accept a client", [] { ::accept4(-1, nullptr, nullptr, 0); }},
      {control, "connect", [] { ::connect(-1, nullptr, 0); }},
      {control, "map what can be executed", [=] { map(PROT_READ | PROT_EXEC); }},
  };
}

TEST_F(ConfinementDeathTest, NoThreadDoesWhatAStartedProgramHasNoNeedFor) {
  for (const attempt& each : attempts()) {
    EXPECT_EXIT(call_as(each.who, seccomp_mode::on, each.call), KilledBySignal(SIGSYS), "")
        << each.what;
  }
}

TEST_F(ConfinementDeathTest, WhatIsOnlyLoggedIsDone) {
  EXPECT_EXIT(call_as(thread_role::reactor, seccomp_mode::log,
                      [] { CHECK(::socket(AF_UNIX, SOCK_STREAM, 0) >= 0); }),
              ExitedWithCode(0), "");
}

TEST_F(ConfinementDeathTest, ABrokenInvariantStillAborts) {
  EXPECT_EXIT(call_as(thread_role::reactor, seccomp_mode::on, [] { CHECK(::getpid() == 0); }),
              KilledBySignal(SIGABRT), "CHECK failed");
}

/// Reads what it wrote, sleeps in between, and has another thread work.
task<bool> use(io::disk& disk, buffer_pool& pool, engine& host, reactor& core) {
  buffer data = pool.get();
  std::ranges::fill(data.bytes(), std::byte{7});
  const result<buffer> written = co_await disk.write(lba{8}, std::move(data));
  const result<> flushed = co_await disk.flush();
  const result<> slept = co_await core.sleep_for(std::chrono::milliseconds{2});
  const int answer = co_await offload(host.elsewhere(), [] { return 42; });
  buffer empty = pool.get();
  const result<buffer> back = co_await disk.read(lba{8}, std::move(empty));
  co_return written&& flushed&& slept&& back&& answer == 42 && back->bytes()[9] == std::byte{7};
}

/// A heap grows and shrinks, both by more than what it keeps.
void use_the_heap() {
  std::vector<std::unique_ptr<std::string>> much;
  for (int count = 0; count < 1000; ++count) {
    much.push_back(std::make_unique<std::string>(10'000, 'x'));
  }
}

[[noreturn]] void live_confined(const std::string& address, poll_mode poll) {
  {
    const auto host = make_engine(poll);
    const auto disk = host->open(*io::parse_address(address));
    const auto pool = host->make_pool({.count = 4});
    CHECK(disk && pool);
    CHECK(host->confine(make_confinement(seccomp_mode::on)).has_value());
    for (int round = 0; round < 3; ++round) {
      CHECK(host->run(0, [&](reactor& core) { return use((*disk)->on(0), **pool, *host, core); }));
      host->call(0, use_the_heap);
      use_the_heap();
    }
  }
  std::exit(0);
}

TEST_F(ConfinementDeathTest, AnEngineWorksAndEndsOnItsLists) {
  const std::string path = testing::TempDir() + "confined-" + std::to_string(::getpid());
  std::ofstream{path} << std::string(1 << 20, 'x');
  for (const std::string& address : {std::string{"ram:1M"}, "file:" + path}) {
    for (const poll_mode poll : {poll_mode::busy, poll_mode::adaptive}) {
      EXPECT_EXIT(live_confined(address, poll), ExitedWithCode(0), "") << address;
    }
  }
  ::unlink(path.c_str());
}

/// A line of what the kernel says of the calling thread, after its label.
std::string status_of_thread(const std::string& label) {
  std::ifstream file{"/proc/thread-self/status"};
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(label + ":\t")) {
      return line.substr(label.size() + 2);
    }
  }
  return {};
}

std::uint64_t capabilities(const std::string& set) {
  return std::stoull(status_of_thread(set), nullptr, 16);
}

TEST(Confinement, NoCapabilityIsLeftButWhatPinningNeeds) {
  constexpr std::uint64_t ipc_lock = std::uint64_t{1} << CAP_IPC_LOCK;
  for (const bool keeps : {false, true}) {
    const auto how = confinement::create({.seccomp = seccomp_mode::off, .keeps_pinning = keeps});
    ASSERT_TRUE(how.has_value());
    std::thread{[&] {
      const std::uint64_t had = capabilities("CapEff");
      ASSERT_TRUE(how->enter(thread_role::reactor).has_value());
      EXPECT_EQ(capabilities("CapEff"), keeps ? had & ipc_lock : 0U);
      EXPECT_EQ(capabilities("CapPrm"), keeps ? had & ipc_lock : 0U);
      EXPECT_EQ(capabilities("CapInh"), 0U);
      EXPECT_EQ(capabilities("CapAmb"), 0U);
      if ((had >> CAP_SETPCAP & 1U) != 0) {
        EXPECT_EQ(capabilities("CapBnd"), 0U);
      }
      EXPECT_EQ(status_of_thread("NoNewPrivs"), "1");
      EXPECT_EQ(status_of_thread("Seccomp"), "0");
    }}.join();
  }
}

/// As in a container that lets nobody filter: for this thread and those that it starts.
void have_seccomp_refused() {
  const auto jump = [](std::uint32_t number) {
    return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, 0, 1, number};
  };
  std::array<sock_filter, 4> filter{
      sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)}, jump(SYS_seccomp),
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EPERM},
      sock_filter{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  ASSERT_EQ(::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL), 0);
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0UL, &program) != 0) {
    GTEST_SKIP() << "it is refused already";
  }
}

TEST(Confinement, WhereFiltersAreRefusedThereIsANoteOrAnErrorForWhoInsists) {
  std::thread{[] {
    have_seccomp_refused();
    const auto wished = confinement::create({.seccomp = seccomp_mode::on});
    ASSERT_TRUE(wished.has_value());
    EXPECT_NE(wished->note().find("--seccomp off"), std::string::npos) << wished->note();
    EXPECT_TRUE(wished->enter(thread_role::reactor).has_value());
    const auto required = confinement::create({.seccomp = seccomp_mode::on, .required = true});
    ASSERT_FALSE(required.has_value());
    EXPECT_EQ(required.error().what, (error{errc::os, EPERM}));
  }}.join();
}

}  // namespace
}  // namespace runnel
