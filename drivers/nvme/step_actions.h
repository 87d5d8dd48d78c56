#pragma once

#include <cstdint>
#include <cstring>

#include "drivers/nvme/controller_data.h"
#include "drivers/nvme/steps.h"
#include "mempool/base/clock.h"
#include "mempool/base/error.h"

// What steps are put together from. Included by the tables only.
namespace runnel::nvme {

inline result<> start_nothing(controller_data&) noexcept {
  return {};
}

template <reg Which, std::uint32_t Bytes = 4>
result<> start_read(controller_data& data) noexcept {
  return data.registers.read(Which, Bytes);
}

/// Done when the register access is; `Learn` judges the value. Done at once when `start` saw that
/// there is nothing to do and began no access.
template <result<> (*Learn)(controller_data&, std::uint64_t) noexcept>
result<bool> after_access(controller_data& data, instant) noexcept {
  if (data.registers.idle()) {
    return true;
  }
  const auto value = data.registers.take();
  if (!value) {
    return false;
  }
  if (!*value) {
    return std::unexpected{value->error()};
  }
  if (const auto learned = Learn(data, **value); !learned) {
    return std::unexpected{learned.error()};
  }
  return true;
}

inline result<> learn_nothing(controller_data&, std::uint64_t) noexcept {
  return {};
}

/// Sends an admin command as the one that the step waits for.
inline result<> start_admin(controller_data& data, const submission_entry& command) noexcept {
  const auto id = data.admin.submit(command);
  if (!id) {
    return std::unexpected{id.error()};
  }
  data.admin_id = *id;
  return {};
}

/// The reply of the step's admin command, once. @pre one was sent
inline std::optional<admin_reply> take_admin(controller_data& data) noexcept {
  data.admin.poll();
  const auto reply = data.admin.take(*data.admin_id);
  if (reply) {
    data.admin_id.reset();
  }
  return reply;
}

/// Done when the admin command is; `Learn` judges dword 0 and the data in `admin_data`.
template <result<> (*Learn)(controller_data&, std::uint32_t) noexcept>
result<bool> after_admin(controller_data& data, instant) noexcept {
  const auto reply = take_admin(data);
  if (!reply) {
    return false;
  }
  if (reply->status != 0) {
    return fail(errc::bad_status, reply->status);
  }
  if (const auto learned = Learn(data, reply->value); !learned) {
    return std::unexpected{learned.error()};
  }
  return true;
}

inline result<> start_poll(controller_data& data) noexcept {
  data.poll_at = {};
  return {};
}

/// Reads CSTS again and again. Done when its `mask` bits are `wanted`.
/// @error bad_status (detail CSTS): the controller reports a fatal error, and `FatalEnds`
template <std::uint32_t Mask, std::uint32_t Wanted, bool FatalEnds>
result<bool> until_status(controller_data& data, instant now) noexcept {
  if (data.registers.idle()) {
    if (data.poll_at == instant{}) {
      data.poll_at = now + data.status_delay();
    }
    if (now < data.poll_at) {
      return false;
    }
    data.poll_at = now + step_poll_interval;
    const auto started = data.registers.read(reg::csts);
    if (!started && started.error().code != errc::queue_full) {
      return std::unexpected{started.error()};
    }
    return false;
  }
  const auto value = data.registers.take();
  if (!value) {
    return false;
  }
  if (!*value) {
    return std::unexpected{value->error()};
  }
  const auto status = static_cast<std::uint32_t>(**value);
  if (FatalEnds && (status & csts_fatal) != 0) {
    data.hint = "the controller reports a fatal error (CSTS.CFS)";
    return fail(errc::bad_status, status);
  }
  return (status & Mask) == Wanted;
}

/// Done when the domain has answered the map or unmap under way.
inline result<bool> after_map(controller_data& data, instant) noexcept {
  if (!data.map_ticket) {
    return true;
  }
  const auto reply = data.domain.take(*data.map_ticket);
  if (!reply) {
    return false;
  }
  data.map_ticket.reset();
  if (reply->status.code != errc::ok) {
    return std::unexpected{reply->status};
  }
  return true;
}

inline result<bool> done_at_once(controller_data&, instant) noexcept {
  return true;
}

/// Out of the device's reach.
template <class Data>
void copy_admin_data(const controller_data& data, Data& out) noexcept {
  static_assert(sizeof(Data) <= host_page_bytes);
  std::memcpy(&out, data.admin_data.data(), sizeof out);
}

// Events that the device reports by itself: which ones, and requests for it to answer when there
// is one; as many as are missing are sent.
result<> configure_events(controller_data& data) noexcept;
result<bool> until_events_configured(controller_data& data, instant now) noexcept;
result<> request_events(controller_data& data) noexcept;

// Gives each I/O queue an interrupt, if they are wanted and the device has so many.
result<> assign_interrupts(controller_data& data) noexcept;
result<bool> until_interrupts_assigned(controller_data& data, instant now) noexcept;

// Resets as much as `scope` says, beside the controller.
result<> begin_reset(controller_data& data) noexcept;
result<bool> until_reset(controller_data& data, instant now) noexcept;

// Turns memory and bus mastering on, which a reset, also by others, may have turned off. Where the
// kernel sees that memory was on before, it restores where it is, too: so before anything is read.
result<> read_pci_command(controller_data& data) noexcept;
result<> learn_pci_command(controller_data& data, std::uint64_t value) noexcept;
result<> enable_memory_and_master(controller_data& data) noexcept;

/// Judges CAP by what was wished for.
result<> learn_capabilities(controller_data& data, std::uint64_t value) noexcept;

/// Clears CC.EN, and with it all the controller knows of our memory.
result<> start_disable(controller_data& data) noexcept;
result<bool> until_disabled(controller_data& data, instant now) noexcept;

}  // namespace runnel::nvme
