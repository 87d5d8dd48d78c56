#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/unique_fd.h"
#include "runtime/confinement.h"
#include "runtime/engine.h"
#include "runtime/reactor.h"

namespace runnel {

/// Tasks of one core that have the same name and wait for the same thing, as deep inside.
struct waiting_tasks {
  const char* name = "";
  const char* waits_for = "";
  std::uint32_t depth = 0;  // tasks that await each other, from the spawned one to this
  std::uint64_t count = 0;
};

/// What the tasks of a core wait for, in the order of their frames. Of a chain of tasks that await
/// each other only the last is given. Frames that had to come from the heap are not seen.
/// @context that core, outside of tasks; allocates
[[nodiscard]] std::vector<waiting_tasks> waiting_on(const reactor& core);

/// The same as text, a line for the core and one for each kind of waiting.
[[nodiscard]] std::string describe_tasks(const reactor& core);

/// Writes to standard error what all tasks of an engine wait for, each time a signal comes: for the
/// question why nothing goes on. It costs a thread that sleeps, and no core anything until then.
/// @context control thread
class task_report {
 public:
  /// @param signal  blocked in all threads of the process, from before there were several
  /// @error os
  [[nodiscard]] static outcome<std::unique_ptr<task_report>> on_signal(int signal, engine& host);
  task_report(const task_report&) = delete;
  task_report& operator=(const task_report&) = delete;
  ~task_report();  // before the engine's

  /// Confines its thread. @error os @context control thread, once
  [[nodiscard]] outcome<> confine(const confinement& how);

 private:
  /// What one core was asked, until it has answered.
  struct question {
    reactor* core = nullptr;
    std::string answer;
    bool asked = false;
    std::binary_semaphore answered{0};
  };

  /// What its thread is to do besides reporting.
  struct order {
    const confinement* how = nullptr;  // null: end
    outcome<> entered{};
    std::binary_semaphore done{0};
  };

  task_report(engine& host, unique_fd signals, unique_fd orders);
  void serve() noexcept;
  void give(order& what) noexcept;
  void write_report();
  [[nodiscard]] static std::string ask(question& one);

  unique_fd signals_;
  unique_fd orders_;  // readable when there is one:
  std::atomic<order*> order_{nullptr};
  std::vector<std::unique_ptr<question>> questions_;
  std::thread thread_;
};

}  // namespace runnel
