"""Measured and given items of the synthetic hospital: MIMIC-IV items with units, distributions and organ loadings.

A measured value is ``centre + spread · z`` (or ``centre · exp(spread · z)`` where ``log``), with
``z = loads · axes + patient + noise``: a healthy adult is at ``centre``, and one unit of an organ's axis moves the
value by ``load · spread``. Centres, spreads and reference ranges are those of adult inpatients in clinical
chemistry texts (Tietz, 6th ed.); item numbers, labels and units are MIMIC-IV's own.
"""

from dataclasses import dataclass, field
from typing import Literal

from data_pipeline.synthetic.codes import AxisShift

Panel = Literal["chemistry", "blood_count", "liver", "coagulation", "blood_gas", "cardiac", "crp"]


@dataclass(frozen=True)
class Lab:
    """A row of d_labitems and the distribution of its values; ``decimals`` are the digits that are reported."""

    itemid: int
    label: str
    category: str
    panel: Panel
    unit: str
    low: float
    high: float
    centre: float
    spread: float
    log: bool
    decimals: int
    loads: AxisShift = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """The order model of a panel: the logit of ordering it is ``base + severity·S + loads · axes`` at that moment.

    ``delay_minutes`` is the median from draw to result.
    """

    base: float
    severity: float
    loads: AxisShift
    delay_minutes: float


ORDERS: dict[Panel, Order] = {
    "chemistry": Order(3.0, 0.3, {}, 75),
    "blood_count": Order(2.2, 0.4, {"bleeding": 0.3}, 55),
    "liver": Order(-1.8, 0.5, {"hepatic": 0.9, "inflammation": 0.2}, 90),
    "coagulation": Order(-1.7, 0.5, {"bleeding": 0.5, "hepatic": 0.5}, 80),
    "blood_gas": Order(-3.4, 1.0, {"respiratory": 0.8, "circulatory": 0.4, "inflammation": 0.3}, 9),
    "cardiac": Order(-3.4, 0.3, {"circulatory": 1.3}, 85),
    "crp": Order(-3.6, 0.2, {"inflammation": 1.0}, 150),
}
"""Missing not at random: routine panels are drawn nearly always, the others on suspicion, all more in the sick."""

LABS: tuple[Lab, ...] = (
    Lab(50912, "Creatinine", "Chemistry", "chemistry", "mg/dL", 0.4, 1.2, 0.85, 0.38, True, 1, {"renal": 1.1}),
    Lab(51006, "Urea Nitrogen", "Chemistry", "chemistry", "mg/dL", 6, 20, 15, 0.36, True, 0,
        {"renal": 1.0, "circulatory": 0.3, "bleeding": 0.2}),
    Lab(50983, "Sodium", "Chemistry", "chemistry", "mEq/L", 133, 145, 139, 3.2, False, 0,
        {"metabolic": -0.4, "circulatory": -0.3}),
    Lab(50971, "Potassium", "Chemistry", "chemistry", "mEq/L", 3.3, 5.1, 4.1, 0.42, False, 1, {"renal": 0.6}),
    Lab(50902, "Chloride", "Chemistry", "chemistry", "mEq/L", 96, 108, 103, 3.8, False, 0, {"metabolic": -0.4}),
    Lab(50882, "Bicarbonate", "Chemistry", "chemistry", "mEq/L", 22, 32, 25.5, 2.6, False, 0,
        {"metabolic": -1.0, "renal": -0.5, "respiratory": 0.4, "circulatory": -0.3}),
    Lab(50868, "Anion Gap", "Chemistry", "chemistry", "mEq/L", 8, 20, 12, 2.5, False, 0, {}),
    Lab(50931, "Glucose", "Chemistry", "chemistry", "mg/dL", 70, 105, 108, 0.22, True, 0,
        {"metabolic": 1.2, "inflammation": 0.2}),
    Lab(50960, "Magnesium", "Chemistry", "chemistry", "mg/dL", 1.6, 2.6, 2.0, 0.25, False, 1, {"renal": 0.3}),
    Lab(50970, "Phosphate", "Chemistry", "chemistry", "mg/dL", 2.7, 4.5, 3.4, 0.24, True, 1, {"renal": 0.6}),
    Lab(50893, "Calcium, Total", "Chemistry", "chemistry", "mg/dL", 8.4, 10.3, 8.9, 0.5, False, 1,
        {"hepatic": -0.3, "renal": -0.3, "inflammation": -0.3}),
    Lab(51222, "Hemoglobin", "Hematology", "blood_count", "g/dL", 12, 17.5, 12.6, 1.5, False, 1,
        {"bleeding": -0.9, "renal": -0.3, "inflammation": -0.2}),
    Lab(51221, "Hematocrit", "Hematology", "blood_count", "%", 36, 51, 38, 4.3, False, 1, {}),
    Lab(51301, "White Blood Cells", "Hematology", "blood_count", "K/uL", 4, 11, 8.2, 0.34, True, 1,
        {"inflammation": 0.8}),
    Lab(51265, "Platelet Count", "Hematology", "blood_count", "K/uL", 150, 440, 230, 0.34, True, 0,
        {"bleeding": -0.4, "hepatic": -0.6, "inflammation": 0.1}),
    Lab(50878, "Asparate Aminotransferase (AST)", "Chemistry", "liver", "IU/L", 0, 40, 26, 0.6, True, 0,
        {"hepatic": 1.0, "circulatory": 0.3}),
    Lab(50861, "Alanine Aminotransferase (ALT)", "Chemistry", "liver", "IU/L", 0, 40, 24, 0.6, True, 0,
        {"hepatic": 0.9, "circulatory": 0.3}),
    Lab(50885, "Bilirubin, Total", "Chemistry", "liver", "mg/dL", 0, 1.5, 0.55, 0.6, True, 1, {"hepatic": 1.1}),
    Lab(50862, "Albumin", "Chemistry", "liver", "g/dL", 3.5, 5.2, 3.8, 0.42, False, 1,
        {"hepatic": -0.7, "inflammation": -0.6}),
    Lab(51237, "INR(PT)", "Hematology", "coagulation", "", 0.9, 1.1, 1.12, 0.2, True, 1,
        {"hepatic": 1.0, "bleeding": 0.4}),
    Lab(51275, "PTT", "Hematology", "coagulation", "sec", 25, 36.5, 30, 0.2, True, 1,
        {"hepatic": 0.6, "bleeding": 0.3}),
    Lab(50813, "Lactate", "Blood Gas", "blood_gas", "mmol/L", 0.5, 2.0, 1.05, 0.38, True, 1,
        {"circulatory": 0.8, "inflammation": 0.4, "metabolic": 0.4, "hepatic": 0.3}),
    Lab(50820, "pH", "Blood Gas", "blood_gas", "units", 7.35, 7.45, 7.41, 0.035, False, 2,
        {"metabolic": -0.7, "circulatory": -0.5, "respiratory": -0.4}),
    Lab(50818, "pCO2", "Blood Gas", "blood_gas", "mm Hg", 35, 45, 39, 0.16, True, 0,
        {"respiratory": 0.7, "metabolic": -0.5}),
    Lab(50821, "pO2", "Blood Gas", "blood_gas", "mm Hg", 85, 105, 98, 0.3, True, 0, {"respiratory": -0.6}),
    Lab(51003, "Troponin T", "Chemistry", "cardiac", "ng/mL", 0, 0.01, 0.008, 1.1, True, 2,
        {"circulatory": 1.1, "renal": 0.3}),
    Lab(50911, "Creatine Kinase, MB Isoenzyme", "Chemistry", "cardiac", "ng/mL", 0, 10, 2.6, 0.7, True, 0,
        {"circulatory": 0.8}),
    Lab(50889, "C-Reactive Protein", "Chemistry", "crp", "mg/L", 0, 5, 7, 1.0, True, 1, {"inflammation": 1.0}),
)  # fmt: skip


@dataclass(frozen=True)
class Vital:
    """A chartevents item of d_items. ``low`` and ``high`` bound what the monitor or the scale can show."""

    itemid: int
    label: str
    abbreviation: str
    category: str
    unit: str
    centre: float
    spread: float
    low: float
    high: float
    decimals: int
    loads: AxisShift = field(default_factory=dict)


VITALS: tuple[Vital, ...] = (
    Vital(220045, "Heart Rate", "HR", "Routine Vital Signs", "bpm", 75, 13, 25, 220, 0,
          {"inflammation": 0.5, "circulatory": 0.5, "respiratory": 0.2, "bleeding": 0.3}),
    Vital(220179, "Non Invasive Blood Pressure systolic", "NBPs", "Routine Vital Signs", "mmHg", 136, 17, 45, 250, 0,
          {"circulatory": -0.7, "inflammation": -0.4, "bleeding": -0.3, "renal": 0.1}),
    Vital(220180, "Non Invasive Blood Pressure diastolic", "NBPd", "Routine Vital Signs", "mmHg", 72, 11, 20, 150, 0,
          {"circulatory": -0.6, "inflammation": -0.4}),
    Vital(220181, "Non Invasive Blood Pressure mean", "NBPm", "Routine Vital Signs", "mmHg", 90, 12, 28, 180, 0),
    Vital(220210, "Respiratory Rate", "RR", "Respiratory", "insp/min", 16, 3.2, 4, 60, 0,
          {"respiratory": 0.9, "metabolic": 0.3, "inflammation": 0.3}),
    Vital(220277, "O2 saturation pulseoxymetry", "SpO2", "Respiratory", "%", 97, 1.7, 55, 100, 0,
          {"respiratory": -0.9, "circulatory": -0.2}),
    Vital(223762, "Temperature Celsius", "Temperature C", "Routine Vital Signs", "°C", 36.8, 0.42, 32, 42, 1,
          {"inflammation": 0.8}),
    Vital(220739, "GCS - Eye Opening", "Eye Opening", "Neurological", "", 4.3, 0.75, 1, 4, 0, {"neurologic": -0.9}),
    Vital(223900, "GCS - Verbal Response", "Verbal Response", "Neurological", "", 5.3, 1.0, 1, 5, 0,
          {"neurologic": -1.0}),
    Vital(223901, "GCS - Motor Response", "Motor Response", "Neurological", "", 6.4, 0.8, 1, 6, 0,
          {"neurologic": -0.9}),
    Vital(223835, "Inspired O2 Fraction", "FiO2", "Respiratory", "", 30, 11, 21, 100, 0, {"respiratory": 0.9}),
    Vital(220050, "Arterial Blood Pressure systolic", "ABPs", "Routine Vital Signs", "mmHg", 132, 17, 40, 250, 0),
    Vital(220051, "Arterial Blood Pressure diastolic", "ABPd", "Routine Vital Signs", "mmHg", 66, 11, 15, 150, 0),
    Vital(220052, "Arterial Blood Pressure mean", "ABPm", "Routine Vital Signs", "mmHg", 86, 12, 25, 180, 0),
)  # fmt: skip

TEMPERATURE_FAHRENHEIT = Vital(
    223761, "Temperature Fahrenheit", "Temperature F", "Routine Vital Signs", "°F", 98.2, 0.76, 89, 108, 1
)
ADMISSION_WEIGHT = Vital(
    226512, "Admission Weight (Kg)", "Admission Weight (Kg)", "General", "kg", 80, 18, 30, 250, 1
)
HEIGHT = Vital(226730, "Height (cm)", "Height (cm)", "General", "cm", 169, 10, 130, 215, 0)
CHARTED: tuple[Vital, ...] = (*VITALS, TEMPERATURE_FAHRENHEIT, ADMISSION_WEIGHT, HEIGHT)

GCS_WORDS: dict[int, tuple[str, ...]] = {
    220739: ("None", "To Pain", "To Speech", "Spontaneously"),
    223900: ("No Response", "Incomprehensible sounds", "Inappropriate Words", "Confused", "Oriented"),
    223901: ("No response", "Abnormal extension", "Abnormal Flexion", "Flex-withdraws", "Localizes Pain",
             "Obeys Commands"),
}  # fmt: skip
"""MIMIC-IV charts the words and keeps the points in valuenum: 1 point is the first word."""


@dataclass(frozen=True)
class Item:
    """A row of d_items that is not charted as a vital sign."""

    itemid: int
    label: str
    linksto: Literal["inputevents", "outputevents", "procedureevents"]
    category: str
    unit: str


NOREPINEPHRINE = Item(221906, "Norepinephrine", "inputevents", "Medications", "mg")
VASOPRESSIN = Item(222315, "Vasopressin", "inputevents", "Medications", "units")
PROPOFOL = Item(222168, "Propofol", "inputevents", "Medications", "mg")
SALINE = Item(225158, "NaCl 0.9%", "inputevents", "Fluids/Intake", "mL")
FOLEY = Item(226559, "Foley", "outputevents", "Output", "mL")
VOID = Item(226560, "Void", "outputevents", "Output", "mL")
INVASIVE_VENTILATION = Item(225792, "Invasive Ventilation", "procedureevents", "2-Ventilation", "min")
NONINVASIVE_VENTILATION = Item(225794, "Non-invasive Ventilation", "procedureevents", "2-Ventilation", "min")
CRRT = Item(225802, "Dialysis - CRRT", "procedureevents", "Dialysis", "min")
ITEMS: tuple[Item, ...] = (
    NOREPINEPHRINE, VASOPRESSIN, PROPOFOL, SALINE, FOLEY, VOID,
    INVASIVE_VENTILATION, NONINVASIVE_VENTILATION, CRRT,
)  # fmt: skip


@dataclass(frozen=True)
class Drug:
    """A drug order. Its logit is ``base`` + 3 where ``condition`` is present + 3 in infection when ``antibiotic``
    + ``loads · axes``."""

    name: str
    code: str
    dose: str
    unit: str
    route: str
    base: float
    condition: str = ""
    antibiotic: bool = False
    loads: AxisShift = field(default_factory=dict)


DRUGS: tuple[Drug, ...] = (
    Drug("Acetaminophen", "ACET325", "650", "mg", "PO/NG", 0.3),
    Drug("Heparin", "HEPA5I", "5000", "UNIT", "SC", 0.2),
    Drug("Docusate Sodium", "DOCU100", "100", "mg", "PO", -0.4),
    Drug("Senna", "SENN187", "8.6", "mg", "PO", -0.5),
    Drug("Pantoprazole", "PANT40", "40", "mg", "PO/NG", -1.2, "reflux", loads={"bleeding": 0.5}),
    Drug("0.9% Sodium Chloride", "NS1000", "1000", "mL", "IV", -0.6, loads={"circulatory": 0.3, "metabolic": 0.3}),
    Drug("Potassium Chloride", "KCL20", "20", "mEq", "PO", -1.2),
    Drug("Magnesium Sulfate", "MAG2PM", "2", "gm", "IV", -1.5),
    Drug("Furosemide", "FURO40I", "40", "mg", "IV", -3.0, "heart_failure", loads={"circulatory": 0.6}),
    Drug("Metoprolol Tartrate", "METO25", "25", "mg", "PO/NG", -2.2, "coronary_disease"),
    Drug("Lisinopril", "LISI10", "10", "mg", "PO", -2.6, "hypertension"),
    Drug("Amlodipine", "AMLO5", "5", "mg", "PO", -3.2, "hypertension"),
    Drug("Atorvastatin", "ATOR40", "40", "mg", "PO", -2.6, "hyperlipidemia"),
    Drug("Aspirin", "ASA81", "81", "mg", "PO", -2.2, "coronary_disease"),
    Drug("Warfarin", "WARF5", "5", "mg", "PO", -4.0, "atrial_fibrillation"),
    Drug("Apixaban", "APIX5", "5", "mg", "PO", -3.8, "atrial_fibrillation"),
    Drug("Insulin", "INSHUMR", "0", "UNIT", "SC", -2.2, "diabetes", loads={"metabolic": 0.6}),
    Drug("Levothyroxine Sodium", "LEVO50", "50", "mcg", "PO", -4.5, "hypothyroidism"),
    Drug("Sertraline", "SERT50", "50", "mg", "PO", -4.0, "depression"),
    Drug("Albuterol 0.083% Neb Soln", "ALBU3H", "1", "NEB", "IH", -3.0, "copd", loads={"respiratory": 0.7}),
    Drug("PredniSONE", "PRED20", "40", "mg", "PO", -4.2, "copd", loads={"respiratory": 0.6}),
    Drug("Lactulose", "LACT30L", "30", "mL", "PO/NG", -5.5, "cirrhosis", loads={"hepatic": 0.9}),
    Drug("CefTRIAXone", "CEFT1F", "1", "gm", "IV", -4.2, antibiotic=True),
    Drug("Vancomycin", "VANC1F", "1000", "mg", "IV", -4.0, antibiotic=True, loads={"inflammation": 0.4}),
    Drug("Piperacillin-Tazobactam", "PIPE4.5I", "4.5", "gm", "IV", -4.6, antibiotic=True,
         loads={"inflammation": 0.6}),
    Drug("Azithromycin", "AZIT500I", "500", "mg", "IV", -4.8, antibiotic=True, loads={"respiratory": 0.5}),
    Drug("HYDROmorphone (Dilaudid)", "HYDR2I", "0.5", "mg", "IV", -1.8),
    Drug("OxyCODONE (Immediate Release)", "OXYC5", "5", "mg", "PO", -1.5),
    Drug("Lorazepam", "LORA2I", "0.5", "mg", "IV", -2.6, "alcohol_use"),
    Drug("Haloperidol", "HALO5I", "0.5", "mg", "IV", -4.5, "dementia", loads={"neurologic": 0.4}),
)  # fmt: skip

ORGANISMS: tuple[tuple[int, str], ...] = (
    (80002, "ESCHERICHIA COLI"),
    (80023, "STAPH AUREUS COAG +"),
    (80004, "KLEBSIELLA PNEUMONIAE"),
    (80026, "PSEUDOMONAS AERUGINOSA"),
    (80053, "ENTEROCOCCUS SP."),
)
ANTIBIOTICS: tuple[tuple[int, str], ...] = (
    (90012, "GENTAMICIN"),
    (90008, "TRIMETHOPRIM/SULFA"),
    (90017, "CEFTAZIDIME"),
)
