#pragma once

#include <string>
#include <vector>

#include "apps/doctor/check.h"
#include "apps/doctor/interfaces.h"
#include "apps/doctor/machine.h"
#include "apps/doctor/structures.h"
#include "drivers/pci/serving.h"

// What a machine lacks for our program to drive its devices, and what to do about it.
namespace runnel::doctor {

/// The way that a device would be opened now.
struct treatment {
  std::string address;
  std::string driver;  // empty: none
  pci::serving serving;
};

struct diagnosis {
  std::string kernel;  // release of the one that runs
  std::vector<check> checks;
  std::vector<interface> interfaces;
  std::vector<treatment> devices;
  std::vector<structure> structures;

  /// Whether no check has failed.
  [[nodiscard]] bool is_fit() const;
};

/// All checks, of which each is there every time, under its own id.
/// @param structures  of whichever kernel they are to be told
[[nodiscard]] diagnosis examine(const machine& here, std::vector<structure> structures);

[[nodiscard]] std::string to_json(const diagnosis& what);
/// A line for each check, way, device and structure.
[[nodiscard]] std::string to_text(const diagnosis& what);

}  // namespace runnel::doctor
