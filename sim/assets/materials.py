"""What things are made of: density, sliding friction and colour; how stiff hinges and slides are."""

from __future__ import annotations

from dataclasses import dataclass

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """One substance, or a packed product taken as one."""

    density_kg_m3: float
    """Mass over volume."""
    friction: float
    """Sliding coefficient that MuJoCo is given for the geom."""
    color_rgb: Color
    """0 ... 1, until appearance is randomised."""


# Densities: building materials from EN 1991-1-1:2002, annex A (weight in kN/m3 over 9.81); products and tools from
# mass and size of the YCB objects (1502.03143, table II), by their bounding boxes or cylinders.
# Friction: dry sliding in everyday pairings spreads over 0.2 ... 0.7; these are middles of it, to be randomised.
BOARD = Material(815.0, 0.5, (0.78, 0.66, 0.48))
"""Fibre board (8.0 kN/m3)."""
WOOD = Material(713.0, 0.5, (0.68, 0.50, 0.32))
"""Birch plywood (7.0 kN/m3), also for handles of tools."""
STEEL = Material(7850.0, 0.4, (0.62, 0.64, 0.67))
"""Steel (77 kN/m3)."""
ALUMINIUM = Material(2750.0, 0.4, (0.75, 0.76, 0.78))
"""Aluminium (27 kN/m3)."""
CERAMIC = Material(2140.0, 0.4, (0.90, 0.90, 0.86))
"""Fired clay, solid (21 kN/m3)."""
PLASTIC = Material(1220.0, 0.4, (0.25, 0.42, 0.70))
"""Acrylic (12 kN/m3)."""
FOOD_CAN = Material(1010.0, 0.4, (0.75, 0.20, 0.18))
"""YCB tomato soup can: 349 g in a cylinder of 66 mm by 101 mm."""
CARTON = Material(206.0, 0.5, (0.80, 0.55, 0.25))
"""YCB cracker box: 411 g in 60 x 158 x 210 mm."""
FULL_BOTTLE = Material(1000.0, 0.4, (0.20, 0.55, 0.35))
"""Water (10 kN/m3): a full bottle whose wall weighs little."""


@dataclass(frozen=True)
class JointFriction:
    """What holds a joint back."""

    damping: float
    """N m s/rad of a hinge, N s/m of a slide."""
    friction_loss: float
    """N m of a hinge, N of a slide."""


# robosuite's door (models/assets/objects/door.xml): damping 1, friction loss 1 at a panel of 0.44 m by 0.58 m.
# Over the same hinge radius that is a pull of about 2.5 N; the kitchen of gymnasium-robotics has 2 and 2.
DOOR_HINGE = JointFriction(1.0, 1.0)
# A lid that stays where it is left would not fall shut: a tenth of the door's, for a panel a third as wide and long.
LID_HINGE = JointFriction(0.1, 0.1)
# metaworld's drawer (objects/assets/drawer.xml) has damping 2; the friction loss is the kitchen's slide cabinet's.
DRAWER_SLIDE = JointFriction(2.0, 2.0)
